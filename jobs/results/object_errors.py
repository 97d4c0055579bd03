"""Conversion of an object store client's errors to messages for users."""

import re

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from jobs.errors import Code, StorageFailure

_WHERE = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN), or an instance role",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT, or the machine's service account",
}
_METADATA_SERVICES = ("/latest/api/token", "/latest/meta-data", "169.254.", "metadata.google.internal", "token request")
"""Where the client looks last, if the environment has no credentials."""
_BAD_KEYS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken")
_STATUS = re.compile(r"status code: (\d{3})")
_ASK_AGAIN = ("408", "409", "412", "429")
"""Too slow, too often, or in conflict with another write: answers to this request, and not to all of them."""
_NOT_IMPLEMENTED = "status code: 501"
_HTTP_KIND = re.compile(r"HttpError \{\s*kind: (\w+)")


def explain(error: Exception, uri: str) -> StorageFailure:
    """Return the failure to raise instead of a client error, which its message quotes."""
    text = str(error)
    said = text.partition("\n\nDebug source")[0].strip()
    said = said if len(said) < 400 else said[:400] + "..."
    scheme = uri.partition("://")[0]
    return StorageFailure(
        Code.WRONG_PLACE if missing_bucket(error) else Code.STORAGE,
        f"{_rule(error, text, uri)}. Fix: {_remedy(error, text, scheme)}. Nothing is lost. (Client error: {said})",
        file=uri,
        refuses=_refused(error, text),
    )


def missing_bucket(error: Exception) -> bool:
    """Return whether an object is missing because its bucket does not exist."""
    return "NoSuchBucket" in str(error) or "bucket does not exist" in str(error)


def reply_lost(error: Exception) -> bool:
    """Return whether a failed request may have been carried out: it was sent, but no reply arrived."""
    kind = _HTTP_KIND.search(str(error))
    return kind is not None and kind.group(1) != "Connect"


def _refused(error: Exception, text: str) -> bool:
    """Return whether the request itself was rejected, as opposed to unanswered or throttled."""
    status = _STATUS.search(text)
    if status is not None and status[1].startswith("4") and status[1] not in _ASK_AGAIN:
        return True
    if _NOT_IMPLEMENTED in text:
        return True
    return missing_bucket(error) or _no_credentials(error, text) or _denied(error, text) or "redirect" in text


def _rule(error: Exception, text: str, uri: str) -> str:
    if missing_bucket(error):
        return f"expected an existing bucket; the bucket of {uri} does not exist"
    if _no_credentials(error, text):
        return f"{uri} requires credentials, and it accepted none from this machine"
    if _denied(error, text):
        return f"expected credentials that may read, write and list {uri}; access was denied"
    if "redirect" in text:
        return f"{uri} is in another region than the one that was contacted"
    if _NOT_IMPLEMENTED in text:
        return f"expected a bucket that supports conditional writes; {uri} does not support a request"
    if "status code: 5" in text or "HttpError" in text:
        return f"{uri} did not respond, or responded with errors, even after retries"
    return f"{uri} rejected a request"


def _remedy(error: Exception, text: str, scheme: str) -> str:
    if missing_bucket(error):
        return "create the bucket, or correct --results"
    if _no_credentials(error, text):
        return f"set {_WHERE[scheme]}"
    if _denied(error, text):
        return "use other credentials, or grant these access"
    if "redirect" in text:
        return "set AWS_REGION to the bucket's region"
    if _NOT_IMPLEMENTED in text:
        return "use a later version of this service, or another service"
    if "status code: 5" in text or "HttpError" in text:
        return "check the network and the endpoint (AWS_ENDPOINT_URL), then resume"
    return "check the root's name and the endpoint's settings"


def _no_credentials(error: Exception, text: str) -> bool:
    unknown = isinstance(error, UnauthenticatedError) or "status code: 401" in text
    return unknown or any(mark in text for mark in (*_METADATA_SERVICES, *_BAD_KEYS))


def _denied(error: Exception, text: str) -> bool:
    return isinstance(error, PermissionDeniedError) or "status code: 403" in text
