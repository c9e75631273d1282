"""Arrow and files, local or S3: schemas, manifests, the image layouts, runs and their ledger."""
