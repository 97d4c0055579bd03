"""Baselines for DeltaSweep. Each runs the same trials and reaches the same accuracies.

``released`` (B0): a reimplementation of how the paper's released code works: one process per trial, images decoded and
transformed one by one with PIL in every epoch, and a forward pass through the whole network in training and evaluation.

``tune_program`` (B1): what a competent user of Ray Tune would write: reused actors, images resized once and kept in
memory, source weights loaded once per actor, and DeltaSweep's precision, threads and memory format. Trials share
nothing.
"""
