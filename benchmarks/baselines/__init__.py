"""What DeltaSweep is measured against; each does the same trials and gives the same accuracies.

``released`` (B0): the way of the paper's released code, written anew: a process a trial, images decoded and
transformed one by one with PIL for every epoch, the whole network's forward in training and evaluation.

``tune_program`` (B1): what a competent user of Ray Tune would write: reused actors, images resized once and in
memory, source weights loaded once an actor, DeltaSweep's precision, threads and memory format; trials share nothing.
"""
