"""Own augmentations: each file of this folder may register some; see pipelines/plan/adding.md."""
