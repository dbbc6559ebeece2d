"""A folder of real radiographs, 64 px: some hundreds to some ten thousand images on a laptop.

Commands:
  cdjax prepare --images FOLDER --manifest FOLDER/metadata.csv --output data --test-share 0.25
  cdjax train --config configs/radiographs.py --workdir run --config.data.path=data
  cdjax evaluate --workdir run --seed 1

Not yet measured with the present model. These numbers are of the one before, whose diffusion
denoised draws of the pathology and whose findings had an embedding for each place: 965 frontal
radiographs of 603 patients from NIH ChestX-ray14 and the Hannover COVID-19 repository (611 images
to train on; three quarters of the patients have one study; prepared with --columns
study=study_offset_days,study too), 2 CPU cores, 10 minutes of training; 151 held-out patients:

  reconstruction                     26.2 dB (25.9 to 26.6), SSIM 0.80: ribs and vessels are lost,
                                     and come back with the residual
  classifier, AUROC                  pneumonia 0.85, infiltration 0.83, oedema 0.92,
                                     atelectasis 0.72, COVID-19 1.00 (one hospital)
  asked, its probability (others')   pneumonia +0.40 (+0.04), infiltration +0.16 (+0.05),
                                     oedema +0.18 (+0.05), atelectasis +0.23 (+0.02),
                                     COVID-19 +0.46 (-0.02)
  made healthy, the old one's        pneumonia -0.04, infiltration -0.05, oedema -0.24,
                                     atelectasis -0.02, COVID-19 -0.06: hardly removed
  SSIM outside the lungs' box        asked 0.60 to 0.72, made healthy 0.79 to 0.85: bad, outlines
                                     of the body and the image's borders are redrawn too
"""

from cdjax.core.config import base_config


def get_config(arg: str = ""):
  """Returns the configuration; it takes no argument. The vocabulary comes from the data set."""
  if arg:
    raise ValueError(f"configs/radiographs.py:{arg}; expected no argument")
  c = base_config()
  c.name = "radiographs"
  c.data.source = "prepared"
  c.data.resolution = 64
  c.autoencoder.num_train_steps = 800
  c.autoencoder.augment = 1.0   # some hundred patients are learnt by heart without
  c.autoencoder.loss.minimality = 0.3   # haze is faint, and should be painted
  c.diffusion.num_train_steps = 800
  c.classifier.num_train_steps = 400
  return c
