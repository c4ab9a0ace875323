"""Science images and templates rendered separately, and subtracted as by pipelines."""
