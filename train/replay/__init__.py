"""Steps of a run, made again: their batches, the step that diverged, the first difference of runs.

In: run folders and their datasets. Out: batches, figures, texts. Nothing here changes a run.
"""
