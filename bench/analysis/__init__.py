"""From a run's ledger to the numbers of its results."""
