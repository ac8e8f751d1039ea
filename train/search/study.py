"""A search over settings with Optuna: each trial is a run in a process of its own.

In: a recipe, ranges, a dataset folder, a folder. Out: the run folders out/trial-N, study.log (the
journal of Optuna), trials.csv and trials.md, written again whenever a trial ends, and trials.png.

The same command again continues the search: interrupted trials first, from their checkpoints. A
search that was interrupted proposes what one without interruption does, with as many jobs.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from slipform.pipelines.errors import ConfigError, Interrupted, SlipformError
from slipform.pipelines.files import check_links, locked, remove_orphans, write_whole
from slipform.pipelines.manifest import Manifest, read_manifest
from slipform.train.config.recipe import Recipe, SweepRun
from slipform.train.config.resolve import resolve
from slipform.train.records import read_summary
from slipform.train.run import checkpoint
from slipform.train.run.folder import CONFIG, LOCK
from slipform.train.run.identity import images_in
from slipform.train.search.proposals import distributions_of, make_sampler
from slipform.train.search.pruning import check_pruning, is_pruned, make_pruner, report, tell_pruned
from slipform.train.search.space import Range
from slipform.train.search.trials import TRIALS, draw_trials, write_trials
from slipform.train.step.data import has_images
from slipform.train.sweep.jobs import Job, run_jobs
from slipform.train.sweep.table import stated_settings

__all__ = ["JOURNAL", "run_search"]

JOURNAL = "study.log"
_NAME = "slipform"
_ASKED = "slipform"  # the attribute of a study that says what was asked for
_CHANGED = {
    "settings": "the recipe or --set states other settings",
    "images": "the dataset has other images or labels",
}


def run_search(
    recipe: Recipe | None,
    data: Path,
    out: Path,
    ranges: Sequence[Range],
    sets: Sequence[str] = (),
    *,
    run: SweepRun | None = None,
    trials: int = 20,
    num_at_once: int = 1,
    seed: int = 0,
    prune: str = "none",
    device: str = "auto",
    quiet: bool = False,
) -> Path:
    """Search for the settings with the highest accuracy on val.

    Args:
        recipe: The recipe. None: settings for the dataset.
        data: The dataset folder; it has a val split, or data.fold is set.
        out: The folder for the runs.
        ranges: The settings to vary.
        sets: Texts "SECTION.KEY=VALUE" that change settings of all runs.
        run: A run of the recipe, if it is a sweep.
        trials: The number of trials in all, with those of an earlier command.
        num_at_once: The number of processes at a time.
        seed: The seed of the proposals.
        prune: Which trials end early, one of `pruning.PRUNERS`.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
        quiet: Print nothing.

    Returns:
        The path of trials.md.

    Raises:
        ConfigError: There are no images for validation, a value of a range is not allowed, or `out`
            has a search with other settings.
        Interrupted: After Ctrl-C or SIGTERM, when all runs in progress have a checkpoint.
        SlipformError: Optuna is not installed, or no trial finished.
    """
    if importlib.util.find_spec("optuna") is None:
        raise SlipformError('a search needs optuna: pip install "slipform[search]"')
    check_pruning(prune, ranges)
    asked = (list(ranges), list(sets), read_manifest(data), seed, prune, device)
    search = _Search(recipe, run, data, out, *asked)
    search.check()
    out.mkdir(parents=True, exist_ok=True)
    check_links(out, (LOCK, JOURNAL, *TRIALS, "trial-*"))
    with locked(out / LOCK, "another search"):
        remove_orphans(out)
        return search.go(trials, num_at_once, quiet)


class _Search:
    """The search in a folder, which is locked."""

    def __init__(
        self,
        recipe: Recipe | None,
        run: SweepRun | None,
        data: Path,
        out: Path,
        ranges: list[Range],
        sets: list[str],
        manifest: Manifest,
        seed: int,
        prune: str,
        device: str,
    ) -> None:
        self.recipe, self.run, self.data, self.out = recipe, run, data, out
        self.ranges, self.sets, self.manifest = ranges, sets, manifest
        self.seed, self.prune, self.device = seed, prune, device

    def check(self) -> None:
        """Check each value of each range, beside the first values of the others.

        Raises:
            ConfigError: A value is not allowed, or there are no images for validation.
        """
        first = {one.name: one.values[0] for one in self.ranges}
        for one in self.ranges:
            for value in one.values:
                config = self.config(first | {one.name: value})
                if not has_images(config, self.manifest, "val"):
                    raise ConfigError(
                        f"{self.data} has no val split: a search chooses by val, never by test. Run"
                        " prep with --val-fraction, or give --set data.fold=1/5"
                    )

    def go(self, trials: int, num_at_once: int, quiet: bool) -> Path:
        """Run all trials that are left."""
        from optuna.trial import TrialState

        study = self._study()
        console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        try:
            while jobs := self._round(study, trials, num_at_once):

                def ended(job: Job, code: int, numbers: dict[Job, int] = jobs) -> str:
                    return self._ended(study, job, numbers[job], code)

                def is_hopeless(job: Job, numbers: dict[Job, int] = jobs) -> bool:
                    return self.prune != "none" and report(
                        study, numbers[job], job.folder, job.config.train.epochs
                    )

                run_jobs(
                    jobs, self._arguments, ended, num_at_once=num_at_once, console=console,
                    is_hopeless=is_hopeless,
                )  # fmt: skip
        finally:
            draw_trials(self.out, study, self.ranges)
        table = write_trials(self.out, study, self.ranges, self._heading())
        if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            raise SlipformError(f"no trial finished; the reasons are in {self.out}/trial-*.log")
        return table

    def _round(self, study: Any, trials: int, num_at_once: int) -> dict[Job, int]:
        """The next jobs, with the numbers of their trials; empty: nothing is left."""
        from optuna.trial import TrialState

        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        # The rest of an interrupted round runs alone: the next proposals stay the same.
        jobs = self._jobs(study, running)
        while not jobs and (left := trials - len(study.trials)) > 0:
            asked = []
            for _ in range(min(num_at_once, left)):
                study.sampler = make_sampler(self.seed, len(study.trials))
                asked.append(study.ask(distributions_of(self.ranges)))
            jobs = self._jobs(study, asked)
        return jobs

    def _jobs(self, study: Any, asked: Sequence[Any]) -> dict[Job, int]:
        """The jobs of trials. A trial whose settings do not fit each other has failed."""
        from optuna.trial import TrialState

        jobs: dict[Job, int] = {}
        for one in asked:
            folder = self.out / f"trial-{one.number:03d}"
            entry = SweepRun("trial", dict(one.params), {})
            if is_pruned(one):  # the search was killed before it told the study
                tell_pruned(study, one.number, folder / checkpoint.FOLDER)
                continue
            try:
                jobs[_TrialJob(entry, self.config(one.params), folder)] = one.number
            except ConfigError as error:
                write_whole(self.out / f"{folder.name}.log", f"{error.message}\n")
                study.tell(one.number, state=TrialState.FAIL)
        return jobs

    def config(self, params: dict[str, Any]) -> Any:
        """The settings of a trial, checked."""
        return resolve(self.recipe, self._texts(params), self.manifest, self.run)

    def _epochs(self) -> int:
        return int(self.config({x.name: x.values[0] for x in self.ranges}).train.epochs)

    def _texts(self, params: dict[str, Any]) -> list[str]:
        return [*self.sets, *(one.text(params[one.name]) for one in self.ranges)]

    def _arguments(self, job: Job) -> list[str]:
        """The arguments of `train` that start or resume a trial."""
        begins = not (job.folder / CONFIG).is_file()
        changed = [f"--set={text}" for text in self._texts(job.run.overrides)]
        if not begins:
            return [str(self.data), "--resume", str(job.folder), "--device", self.device]
        named = []
        if self.recipe is not None:
            run = f":{self.run.name}" if self.run else ""
            named = ["--recipe", f"{self.recipe.name}{run}"]
        return [str(self.data), *named, *changed, "--out", str(job.folder), "--device", self.device]

    def _ended(self, study: Any, job: Job, number: int, code: int) -> str:
        """Tell Optuna how a trial ended. An interrupted one stays open."""
        from optuna.trial import TrialState

        summary = read_summary(job.folder)
        if self.prune != "none":  # the last epochs
            report(study, number, job.folder, job.config.train.epochs)
        if code == Interrupted.exit_code:
            if not is_pruned(study.get_trials(deepcopy=False)[number]):
                return "interrupted"
            said = tell_pruned(study, number, job.folder / checkpoint.FOLDER)
        elif code == 0 and summary is not None and summary["val_accuracy"] is not None:
            # The checkpoints go last: a search that is killed before it has told the study resumes
            # the trial from them.
            study.tell(number, float(summary["val_accuracy"]))
            shutil.rmtree(job.folder / checkpoint.FOLDER, ignore_errors=True)
            said = f"val accuracy {summary['val_accuracy']:.4f}"
        else:
            study.tell(number, state=TrialState.FAIL)
            said = "diverged" if job.has_diverged else f"failed: {job.why_it_ended(code)}"
        write_trials(self.out, study, self.ranges, self._heading())
        return said

    def _study(self) -> Any:
        """The study in the folder, new or continued."""
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = JournalStorage(JournalFileBackend(str(self.out / JOURNAL)))
        study = optuna.create_study(
            storage=storage, study_name=_NAME, direction="maximize", load_if_exists=True,
            pruner=make_pruner(self.prune, self._epochs()),
        )  # fmt: skip
        asked, before = self._asked(), study.user_attrs.get(_ASKED)
        if before is None:
            study.set_user_attr(_ASKED, asked)
            return study
        before = {**asked, "prune": "none", **before}  # an older version noted less
        if changed := [key for key in asked if asked[key] != before[key]]:
            listed = "; ".join(
                _CHANGED.get(key, f"{key} was {before[key]}, not {asked[key]}") for key in changed
            )
            raise ConfigError(f"{self.out} has another search: {listed}. Give another --out")
        return study

    def _asked(self) -> dict[str, Any]:
        """What must not change when a search continues."""
        recipe, run = self.recipe or Recipe("", {}), self.run or SweepRun("", {}, {})
        train = self.manifest.split("train")
        return {
            "recipe": f"{recipe.name}:{run.name}".strip(":"),
            "settings": stated_settings(recipe, run, self.sets),
            "ranges": [str(one) for one in self.ranges],
            "dataset": f"{self.manifest.dataset}, {train.num_samples} images",
            "images": images_in(self.manifest, self.manifest.splits),
            "seed": self.seed,
            "prune": self.prune,
        }

    def _heading(self) -> list[str]:
        asked = self._asked()
        ranges = " ".join(f"--range {text}" for text in asked["ranges"])
        return [
            f"# Search over {', '.join(one.name for one in self.ranges)}",
            "",
            f"- Ranges: `{ranges}`, seed {self.seed}; recipe: {asked['recipe'] or 'none'}",
            f"- Data: {self.data}: {asked['dataset']}",
            "- The accuracy on val chooses. The best of many trials is too high: compare on test.",
        ]


class _TrialJob(Job):
    """A job that is named by its folder."""

    def __hash__(self) -> int:
        return hash(self.folder)

    def __str__(self) -> str:
        return self.folder.name
