"""Science images and templates rendered apart, and their subtraction as pipelines do it."""
