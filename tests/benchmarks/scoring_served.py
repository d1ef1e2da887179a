"""`onlinevpo serve` as it is, but with the reward models of tests/benchmarks/scoring_models.py in its replicas.

python -m tests.benchmarks.scoring_served CONFIG --json
"""

import sys
from dataclasses import replace

from cluster.factories import Named
from cluster.serving.deployment import Deployment
from services.cli import main
from services.serve_config import DeploymentConfig
from services.serving import models

as_configured = models._deployment


def of_known_cost(name: str, config: DeploymentConfig) -> Deployment:
    return replace(as_configured(name, config), build=Named("tests.benchmarks.scoring_models", "build"))


if __name__ == "__main__":
    models._deployment = of_known_cost
    sys.argv[1:1] = ["serve"]
    main()
