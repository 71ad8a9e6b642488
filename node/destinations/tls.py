"""TLS from the node to a system of its site."""

import ssl

from node.config.destinations import ClientTls


def client_context(tls: ClientTls) -> ssl.SSLContext:
    """The context of a client that trusts one authority alone. Raises OSError (ssl.SSLError) for files that are not there or do not fit."""
    context = ssl.create_default_context(cafile=str(tls.ca))
    context.minimum_version = (
        ssl.TLSVersion.TLSv1_2
    )  # systems of 2010 speak no later one, and none of today needs an earlier
    if tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    return context
