"""Amazon's door: whether a request's signature is whole, computed by Amazon's own library.

The rules: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from wires import Refusal

if TYPE_CHECKING:
    from wires import Sent

REGION = "us-east-1"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIALOOPBACK", "AWS_SECRET_ACCESS_KEY": "a secret of the loopback", "AWS_REGION": REGION}
"""What a person has in the environment."""
CREDENTIAL = re.compile(
    rf"AWS4-HMAC-SHA256 Credential={KEYS['AWS_ACCESS_KEY_ID']}/\d{{8}}/{REGION}/bedrock/aws4_request, ?"
    r"SignedHeaders=(?P<names>[^,]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)
MISMATCH = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your AWS Secret Access Key and signing method."
)


def refuse_bad_signatures(sent: Sent) -> Refusal | None:
    """Return what AWS answers to a request for Bedrock whose signature does not hold."""
    if sent.provider != "amazon-bedrock" or _is_signed(sent):
        return None
    return Refusal(403, {"message": MISMATCH}, {"x-amzn-errortype": "SignatureDoesNotMatch"})


def _is_signed(sent: Sent) -> bool:
    present = {name.lower(): value for name, value in sent.headers}
    said = CREDENTIAL.fullmatch(present.get("authorization", ""))
    if said is None:
        return False
    names = said["names"].split(";")
    must = {"host", *(name for name in present if name.startswith("x-amz-"))}
    if not must <= set(names) <= present.keys():
        return False
    body_hash = hashlib.sha256(sent.body).hexdigest()
    if present.get("x-amz-content-sha256", body_hash) != body_hash:
        return False
    request = AWSRequest(
        method=sent.method,
        url=f"http://{present['host']}{sent.path}",
        headers={name: present[name] for name in names},
        data=sent.body,
    )
    request.context["timestamp"] = present["x-amz-date"]
    signer = SigV4Auth(Credentials(KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"]), "bedrock", REGION)
    wanted = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    return bool(wanted == said["signature"])
