"""What an object store's client reports, said for the person at the terminal."""

import re

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from jobs.errors import Code, StorageFailure

_WHERE = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN), or an instance role",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT, or the machine's service account",
}
_METADATA_SERVICES = ("/latest/api/token", "/latest/meta-data", "169.254.", "metadata.google.internal", "token request")
"""Where the client looks last, when the environment names no credentials."""
_BAD_KEYS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken")
_STATUS = re.compile(r"status code: (\d{3})")
_ASK_AGAIN = ("408", "429")
_HTTP_KIND = re.compile(r"HttpError \{\s*kind: (\w+)")


def explain(error: Exception, uri: str) -> StorageFailure:
    """The failure to raise in place of one of the client's, which it quotes."""
    text = str(error)
    said = text.partition("\n\nDebug source")[0].strip()
    said = said if len(said) < 400 else said[:400] + "..."
    scheme = uri.partition("://")[0]
    return StorageFailure(
        Code.WRONG_PLACE if missing_bucket(error) else Code.STORAGE,
        f"{_rule(error, text, uri)}. {_remedy(error, text, scheme)}. Nothing is lost. (It said: {said})",
        file=uri,
        refuses=_refused(error, text),
    )


def missing_bucket(error: Exception) -> bool:
    """Whether an object is absent because its whole bucket is."""
    return "NoSuchBucket" in str(error) or "bucket does not exist" in str(error)


def reply_lost(error: Exception) -> bool:
    """Whether the request may have been carried out although it failed: it was sent, and no answer came."""
    kind = _HTTP_KIND.search(str(error))
    return kind is not None and kind.group(1) != "Connect"


def _refused(error: Exception, text: str) -> bool:
    """Whether the request itself was turned down; what was merely not answered, or too often asked, was not."""
    status = _STATUS.search(text)
    if status is not None and status[1].startswith("4") and status[1] not in _ASK_AGAIN:
        return True
    return missing_bucket(error) or _no_credentials(error, text) or _denied(error, text) or "redirect" in text


def _rule(error: Exception, text: str, uri: str) -> str:
    if missing_bucket(error):
        return f"the bucket of a results root must exist; that of {uri} does not"
    if _no_credentials(error, text):
        return f"{uri} needs credentials, and this machine offers none that were accepted"
    if _denied(error, text):
        return f"the credentials in use must be allowed to read, write and list {uri}; access was denied"
    if "redirect" in text:
        return f"{uri} lies in another region than the one asked"
    if "status code: 5" in text or "HttpError" in text:
        return f"{uri} did not answer as it should, also after waiting and trying again"
    return f"{uri} refused a request"


def _remedy(error: Exception, text: str, scheme: str) -> str:
    if missing_bucket(error):
        return "Make the bucket, or correct --results"
    if _no_credentials(error, text):
        return f"Set {_WHERE[scheme]}"
    if _denied(error, text):
        return "Use other credentials, or have these allowed to"
    if "redirect" in text:
        return "Set AWS_REGION to the bucket's"
    if "status code: 5" in text or "HttpError" in text:
        return "Check the network and the endpoint (AWS_ENDPOINT_URL), then resume"
    return "Check the root's name and the endpoint's settings"


def _no_credentials(error: Exception, text: str) -> bool:
    unknown = isinstance(error, UnauthenticatedError) or "status code: 401" in text
    return unknown or any(mark in text for mark in (*_METADATA_SERVICES, *_BAD_KEYS))


def _denied(error: Exception, text: str) -> bool:
    return isinstance(error, PermissionDeniedError) or "status code: 403" in text
