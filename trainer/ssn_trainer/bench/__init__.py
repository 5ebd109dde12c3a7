"""How long a bundle takes on each engine here, beside the published graph and what it stands on."""
