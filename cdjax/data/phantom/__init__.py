"""A synthetic chest radiograph with known causes.

`render(anatomy, pathology, acquisition)` is the generative end of the project's causal graph:
identity -> x <- pathology <- findings, identity -> the pathology's appearance. Because the causes
are known, the exact counterfactual exists (`exact_counterfactual`), and so do lesion masks.
"""

from cdjax.data.phantom.acquisition import Acquisition, sample_acquisition
from cdjax.data.phantom.anatomy import Anatomy, sample_anatomy
from cdjax.data.phantom.counterfactual import exact_counterfactual
from cdjax.data.phantom.pathology import (
    Pathology,
    findings_of,
    healthy_like,
    pathology_from_findings,
    redraw_hidden,
    sample_pathology,
)
from cdjax.data.phantom.population import (
    balanced_batch,
    first_studies,
    phantom_records,
    population_size,
    sample_study,
    studies_per_patient,
)
from cdjax.data.phantom.render import lesion_mask, render
from cdjax.data.phantom.reports import write_report
from cdjax.data.phantom.vocabulary import ALL, FIVE, PHANTOM_FINDINGS, FindingSpec, check_vocabulary

__all__ = [
    "ALL", "FIVE", "PHANTOM_FINDINGS", "Acquisition", "Anatomy", "FindingSpec", "Pathology",
    "balanced_batch", "check_vocabulary", "exact_counterfactual", "findings_of", "first_studies",
    "healthy_like", "lesion_mask", "pathology_from_findings", "phantom_records", "population_size",
    "redraw_hidden", "render", "sample_acquisition", "sample_anatomy", "sample_pathology",
    "sample_study", "studies_per_patient", "write_report",
]
