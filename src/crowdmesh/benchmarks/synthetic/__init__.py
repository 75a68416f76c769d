"""The synthetic benchmark: methods over a world whose truth is known, one command for all tables."""

from crowdmesh.benchmarks.synthetic.bench import Bench, bench_rows, run_bench
from crowdmesh.benchmarks.synthetic.methods import METHODS, TRIALS, Method
from crowdmesh.benchmarks.synthetic.plan import QUICK, TABLES, Effort

__all__ = ["METHODS", "QUICK", "TABLES", "TRIALS", "Bench", "Effort", "Method", "bench_rows", "run_bench"]
