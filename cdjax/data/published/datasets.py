"""Name to data set."""

from cdjax.data.published import (
  chexpert,
  chexpert_plus,
  cxr_lt,
  mimic_cxr,
  nih,
  openi,
  padchest,
  vindr_cxr,
)

DATASETS = {
  "mimic-cxr": mimic_cxr.DATASET,
  "cxr-lt": cxr_lt.DATASET,
  "chexpert": chexpert.DATASET,
  "chexpert-plus": chexpert_plus.DATASET,
  "nih": nih.DATASET,
  "padchest": padchest.DATASET,
  "vindr-cxr": vindr_cxr.DATASET,
  "openi": openi.DATASET,
}
