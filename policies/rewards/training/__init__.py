"""Training of reward models: from labelled pairs or ratings of videos to a checkpoint in the published layout."""
