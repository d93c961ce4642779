"""Runs `lightdet costs`: prints the counted costs of all networks beside the published figures.

python recipes/print_costs.py --write docs/costs.md
"""

import sys

from keras_lightdet.cli import main

if __name__ == "__main__":
    sys.exit(main(["costs", *sys.argv[1:]]))
