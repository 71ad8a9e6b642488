"""What can be wrong with an analyzer's query for its orders (IHE LAW, LAB-27): each class is one entry of the catalogue."""

from hl7.errors import Hl7Error


class QueryIncomplete(Hl7Error):
    """A query that lacks its query tag or the sample's number: kept, answered AE, nothing is looked up."""

    code = "LAW-01"
    error_code = "101"
    text = "Query lacks what it asks for: QPD-2 query tag, QPD-3 sample"
    hint = "An analyzer asked for orders without naming its query or a sample. Read the tube's barcode again; else check its QPD-2 and QPD-3."


class QueryUnknown(Hl7Error):
    """A query by something else than a sample's number, such as a place in a rack: kept, answered AR."""

    code = "LAW-02"
    fault = "site"
    reply = "AR"
    error_code = "103"
    text = "Query is not answered here: WOS by sample, or WOS_ALL"
    hint = "An analyzer asked for orders by rack, tray or isolate, which this node does not know. Set it to ask by sample (WOS) or for all of them (WOS_ALL)."


class OrdersUnread(Hl7Error):
    """The local copy of the orders could not be read: the query is kept, the analyzer is told to ask again."""

    code = "LAW-03"
    fault = "node"
    text = "Orders cannot be read just now; ask again"
    hint = "The node's copy of the orders cannot be read now: it is being made anew, or the disk is full. Analyzers ask again; if it lasts, make room, restart."
    retryable = True
