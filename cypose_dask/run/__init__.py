"""Plan, map_blocks, workers, results: the part that knows Dask."""

from cypose_dask.run.certificates import Certificates
from cypose_dask.run.checks import Finding, verify
from cypose_dask.run.clusters import Gpus, SlurmJobs, connect, profile
from cypose_dask.run.convert import convert_files, convert_movie
from cypose_dask.run.directory import Job, Watcher, segment_files
from cypose_dask.run.estimation import Estimate, estimate, workers_until
from cypose_dask.run.execute import Progress, segment
from cypose_dask.run.finding import Source, find_movies
from cypose_dask.run.lazy import segment_lazy
from cypose_dask.run.link import Linked, link
from cypose_dask.run.measure import Measured, measure
from cypose_dask.run.outcome import MovieOutcome
from cypose_dask.run.plan import Plan, make_plan
from cypose_dask.run.report import write_report

__all__ = [
    "Certificates",
    "Estimate",
    "Finding",
    "Gpus",
    "Job",
    "Linked",
    "Measured",
    "MovieOutcome",
    "Plan",
    "Progress",
    "SlurmJobs",
    "Source",
    "Watcher",
    "connect",
    "convert_files",
    "convert_movie",
    "estimate",
    "find_movies",
    "link",
    "make_plan",
    "measure",
    "profile",
    "segment",
    "segment_files",
    "segment_lazy",
    "verify",
    "workers_until",
    "write_report",
]
