"""Steps of a run, made again: their batches, the step that diverged, the first difference of runs.

In: run folders and their datasets. Out: batches, figures, texts. The training of a run does not
change; figures and tensors are written to its folder figures/, or to another one.
"""
