"""The configuration of a run: sections, recipes, `--set`, TOML. See `resolve.resolve`."""
