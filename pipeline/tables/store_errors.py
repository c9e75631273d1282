"""What the failures of a file system or store mean, and what to do, in words for people."""

from __future__ import annotations

from pipeline.tables.patience import NO_CREDENTIALS, NOT_TRUSTED, code_of, names_of


def for_people(error: Exception) -> str | None:
    """What a failure of a file system means; None: of no kind that is known."""
    if isinstance(error, FileNotFoundError):
        gone = "bucket" if code_of(error) == "NoSuchBucket" else "file or folder"
        return f"there is no such {gone}"
    if isinstance(error, PermissionError):
        return f"access denied ({error}); check the rights of the user or role"
    if isinstance(error, IsADirectoryError | NotADirectoryError):
        return str(error.strerror or error)
    if access := no_access(error):
        return access
    if type(error).__name__ == "ParamValidationError":
        return "is no name of a bucket: 3 to 63 small letters, digits, '.' and '-'"
    if type(error).__name__ == "EndpointConnectionError":
        return f"there is no such store ({error}); check s3.endpoint_url or AWS_ENDPOINT_URL"
    if isinstance(error, OSError) and code_of(error):
        return f"the store refuses: {error}"
    return None


def no_access(error: BaseException) -> str | None:
    """Why no store can be asked at all, and what to do; None: that isn't it."""
    names = set(names_of(error))
    if names & NO_CREDENTIALS:
        return (
            f"no S3 credentials ({error}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE, or run where an instance role gives them; a login that has expired is "
            "made again (aws sso login)"
        )
    if NOT_TRUSTED in names:
        return (
            f"the store's certificate is not trusted ({error}); give the authority that signed it "
            "with AWS_CA_BUNDLE=FILE on every node, or correct s3.endpoint_url"
        )
    return None
