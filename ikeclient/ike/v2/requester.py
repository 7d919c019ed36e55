"""What an IKE SA asks its peer once it is up, as `responder` is what it answers."""

from __future__ import annotations

from ikeclient.ike.v2.exchanges.informational import delete_children, delete_ike_sa, informational, probe_path
from ikeclient.ike.v2.exchanges.init import new_spi
from ikeclient.ike.v2.exchanges.mobike import COOKIE2_LENGTH, look_at_path, update_addresses
from ikeclient.ike.v2.exchanges.rekey_child import ChildTerms, rekey_child
from ikeclient.ike.v2.exchanges.rekey_ike import rekey_ike
from ikeclient.ike.v2.responder import View
from ikeclient.ike.v2.tasks import Exchange, Job, Task


def exchange_for(view: View, task: Task) -> Exchange | None:
    """The exchange for a task whose turn has come; None if there is nothing left to do."""
    config, children, keying = view.config, view.children, view.keying
    match task.job:
        case Job.LIVENESS if view.outcome is not None and view.outcome.mobike:
            return look_at_path(keying.spi_i, keying.spi_r, view.channel.path)
        case Job.LIVENESS:
            return informational()
        case Job.PROBE:
            padding, size = view.channel.padding(task.subject)
            return probe_path(task.subject, size, padding, view.channel.requests)
        case Job.MOVE:
            return update_addresses(keying.spi_i, keying.spi_r, view.channel.path, view.entropy(COOKIE2_LENGTH))
        case Job.DELETE_IKE:
            return informational(delete_ike_sa(view.ending.reason))
        case Job.DELETE_CHILD if children.get(task.subject):
            children.ask_to_delete(task.subject)
            return informational((delete_children([task.subject]),))
        case Job.REKEY_IKE:
            return rekey_ike(config.ike_proposals, keying, spi=new_spi(view.entropy), entropy=view.entropy)
        case Job.REKEY_CHILD | Job.CREATE_CHILD:
            again = task.job is Job.CREATE_CHILD
            old = children.lost if again else children.rekeyable(task.subject)
            if old is None:
                return None
            children.ask_to_replace(old.spi_in)
            return rekey_child(ChildTerms.of(view, old), again=again)
    return None
