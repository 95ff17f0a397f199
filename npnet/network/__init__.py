"""The network, its checkpoints and the published ones: what decides the noise that NPNet makes."""
