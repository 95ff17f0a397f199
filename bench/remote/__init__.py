"""Run folders and image caches at an address (`s3://`, `gs://`, `file://`, ...), through fsspec.

    s3://bucket/x/<suite>-<id>/  images/  results.json  report.html  ledger.sqlite  remote.json

Every address has a work folder on this machine, and all other code sees that alone. What a run writes there is
uploaded in the background; a file counts as uploaded once the journal of its work folder says so, and not before. The
ledger is written in the work folder; the address gets whole snapshots of it, each after the images that it names.
"""
