"""Golden numbers, which only change on purpose, recorded for the device kinds that computed them."""
