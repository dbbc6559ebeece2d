"""Values that several config files change together: key → value, flattened."""

# Plain latent diffusion on an ordinary KL autoencoder of the same size: the baseline that nothing
# was disentangled in. Key → value, for `ConfigDict.update_from_flattened_dict`.
# Its perceptual loss, where there is one, stays: published autoencoders have one too.
NO_DISENTANGLEMENT = {
    "autoencoder.model.lesion_channels": (),
    "autoencoder.model.transformer_layers": 0,
    "autoencoder.model.acquisition": False,
    **{f"autoencoder.loss.{name}": 0.0 for name in (
        "null_anchor", "swap_same_patient", "findings", "location", "severity", "invariance",
        "acquisition_equivariance", "acquisition_invariance", "kl_acquisition", "minimality")},
    "autoencoder.loss.kl_pathology": 1.0,
    "autoencoder.loss.mirror": 0.0,
    "autoencoder.loss.outline_shift": 0.0,
    "autoencoder.anomalies": 0.0,
    "diffusion.target": "everything",
    "diffusion.mirror_share": 0.0,
    "diffusion.condition.identity": "none",
}


# A model that compiles and trains in seconds and learns nothing: tests of the plumbing.
TINY = {
    "data.resolution": 32,
    "data.phantom.patients": 40,
    "autoencoder.model.block_out_channels": (16, 16),
    "autoencoder.model.lesion_channels": (8, 8),
    "autoencoder.model.mid_attention": False,
    "autoencoder.model.transformer_width": 16,
    "diffusion.model.block_out_channels": (16, 16),
    "diffusion.model.norm_num_groups": 8,
    "diffusion.model.context_width": 32,
    **{f"{stage}.model.block_out_channels": (8, 16)
       for stage in ("classifier", "judge", "verifier")},
    **{f"{stage}.{key}": value
       for stage in ("autoencoder", "diffusion", "classifier", "judge", "verifier")
       for key, value in (("num_train_steps", 6), ("batch_size", 8), ("warmup_steps", 2),
                          ("log_every", 2), ("checkpoint_every", 3), ("eval_every", 0))},
    "judge.num_images": 64,
    "counterfactual.num_steps": 4,
    "counterfactual.inversion_steps": 6,
    "noise.steps": 2,
    "noise.sampler_steps": 2,
    "noise.batch_size": 4,
}


# Some thousand patients with one image each, 64 px.
RADIOGRAPHS_64 = {
    "data.source": "prepared",
    "data.resolution": 64,
    "autoencoder.num_train_steps": 4000,
    "autoencoder.augment": 1.0,   # one image a patient is learnt by heart without
    "autoencoder.loss.minimality": 0.3,   # haze is faint, and should be painted
    "diffusion.num_train_steps": 4000,
    "classifier.num_train_steps": 2000,
}


# Some ten thousand patients and more, 128 px, on accelerators: larger models, longer training.
RADIOGRAPHS_128 = {
    "data.source": "prepared",
    "data.resolution": 128,
    "data.num_workers": 8,
    "autoencoder.batch_size": 128,
    "autoencoder.num_train_steps": 20000,
    "autoencoder.eval_every": 2000,
    "autoencoder.checkpoint_every": 1000,
    "autoencoder.loss.minimality": 0.3,   # haze is faint, and should be painted
    "autoencoder.model.block_out_channels": (64, 96, 128),
    "autoencoder.model.lesion_channels": (32, 48, 64),
    "autoencoder.model.dtype": "bfloat16",
    "diffusion.batch_size": 256,
    "diffusion.num_train_steps": 20000,
    "diffusion.eval_every": 2000,
    "diffusion.checkpoint_every": 1000,
    "diffusion.model.block_out_channels": (128, 192),
    "diffusion.model.dtype": "bfloat16",
    "classifier.batch_size": 256,
    "classifier.num_train_steps": 5000,
    "classifier.model.dtype": "bfloat16",
}
