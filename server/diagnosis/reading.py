"""Whether documents can be read here, and whether their readers are cut off from the network."""

from indexer.errors import IndexerError
from indexer.sandbox import Sandbox
from server.diagnosis.findings import Finding, fail, ok, warn


def reader() -> Finding:
    """Reads a small document as an ingest would."""
    sandbox = Sandbox()
    try:
        text = sandbox(b"# Title\n\nA sentence.\n", "page.md").documents[0].text
        isolated = sandbox.isolated
    except IndexerError as problem:
        return fail("reader", str(problem), "look for what kills child processes here: memory, a policy")
    finally:
        sandbox.close()
    if "A sentence." not in text:
        return fail("reader", "a small document came back without its text", "make setup")
    if not isolated:
        return warn("reader", "documents are read in a killable process, but with a network",
                    "allow unprivileged user namespaces (kernel.unprivileged_userns_clone)")  # fmt: skip
    return ok("reader", "documents are read in a killable process without a network")
