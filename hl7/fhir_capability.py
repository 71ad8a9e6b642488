"""What a FHIR feed says of itself: the CapabilityStatement, naming every limit, and SMART's configuration."""

from typing import Any, NamedTuple

from hl7.fhir import ENTRIES_MAX, Strictness
from hl7.fhir_json import DEPTH_MAX, VALUES_MAX
from hl7.fhir_types import BUNDLES_CARRIED, TYPES

Resource = dict[str, Any]
READS = {
    Strictness.LENIENT: "Whatever comes is kept, with a warning where it is not a resource of R4 at its right address.",
    Strictness.NORMAL: "A body must be readable, a resource of R4, and stand at its right address. Its content is not validated.",
    Strictness.STRICT: "A body is validated by the R4B models of fhir.resources (docs/fhir.md names the differences), within a time.",
}


class Endpoint(NamedTuple):
    """The facts of one feed that its pages tell."""

    base: str
    version: str
    date: str
    strictness: Strictness
    types: tuple[str, ...]
    body_bytes_max: int
    token_url: str  # empty where no client may sign for a token
    needs_token: bool
    scopes: tuple[str, ...]

    @property
    def limits(self) -> str:
        """Every limit, in one sentence."""
        return (
            f"Limits: a body of {self.body_bytes_max} bytes (413), {VALUES_MAX} values, {DEPTH_MAX} levels, {ENTRIES_MAX} entries of a Bundle; "
            "no JSON member twice, no NaN. 429 while the disk is slow, 507 while there is no room: both with Retry-After."
        )


def capability_statement(endpoint: Endpoint) -> Resource:
    """The CapabilityStatement (R4, kind instance)."""
    return {
        "resourceType": "CapabilityStatement",
        "url": f"{endpoint.base}/metadata",
        "version": endpoint.version,
        "name": "WaslFhirFeed",
        "title": "Wasl: FHIR feed",
        "status": "active",
        "date": endpoint.date,
        "publisher": "Wasl",
        "description": (
            "Takes FHIR resources and carries them, in order and signed, to the health record. It is no repository: nothing can be read or searched here. "
            f"A 2xx is answered after the bytes are on stable storage. {READS[endpoint.strictness]} {endpoint.limits}"
        ),
        "kind": "instance",
        "software": {"name": "Wasl node", "version": endpoint.version},
        "implementation": {"description": "FHIR feed of a Wasl node", "url": endpoint.base},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "application/fhir+xml"],
        "rest": [_rest(endpoint)],
        "messaging": [{"documentation": "$process-message takes any message; it is carried, and answered 202 without a response message."}],
        "document": [{
            "mode": "consumer",
            "documentation": "Any document Bundle, at the base or at /Bundle.",
            "profile": "http://hl7.org/fhir/StructureDefinition/Bundle",
        }],
    }  # fmt: skip


def _rest(endpoint: Endpoint) -> Resource:
    return {
        "mode": "server",
        "documentation": f"Bundles carried: {', '.join(sorted(BUNDLES_CARRIED))}. Entries are answered in their order; a transaction is one record.",
        "security": _security(endpoint),
        "resource": [_resource(kind) for kind in sorted(endpoint.types or TYPES)],
        "interaction": [{"code": "transaction"}, {"code": "batch"}],
        "operation": [
            {"name": "validate", "definition": "http://hl7.org/fhir/OperationDefinition/Resource-validate"},
            {"name": "process-message", "definition": "http://hl7.org/fhir/OperationDefinition/MessageHeader-process-message"},
        ],
    }  # fmt: skip


def _security(endpoint: Endpoint) -> Resource:
    found: Resource = {}
    if endpoint.token_url:
        found["extension"] = [
            {
                "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
                "extension": [{"url": "token", "valueUri": endpoint.token_url}],
            }
        ]
    found["cors"] = False
    if endpoint.token_url:
        system = "http://terminology.hl7.org/CodeSystem/restful-security-service"
        found["service"] = [{"coding": [{"system": system, "code": "SMART-on-FHIR"}]}]
    found["description"] = (
        "A bearer token is needed." if endpoint.needs_token else "Addresses, and certificates where TLS asks for them."
    )
    return found


def _resource(kind: str) -> Resource:
    """Every type is taken alike. Conditional requests are kept with their conditions and carried out at the centre."""
    return {
        "type": kind,
        "interaction": [{"code": "create"}, {"code": "update"}],
        "versioning": "no-version",
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalUpdate": True,
    }


def smart_configuration(endpoint: Endpoint) -> dict[str, Any]:
    """`.well-known/smart-configuration` of backend services (SMART App Launch 2.2)."""
    return {
        "token_endpoint": endpoint.token_url,
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
        "grant_types_supported": ["client_credentials"],
        "scopes_supported": list(endpoint.scopes),
        "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
    }
