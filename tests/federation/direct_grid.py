"""Flower's grid without a network, which hands messages to a ClientApp in this process."""

import flwr.common.constant
from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1  # of the process that sends a message
RAISED = flwr.common.constant.ErrorCode.CLIENT_APP_RAISED_EXCEPTION


class DirectGrid(Grid):
    """An app is called at once; what it raises becomes an error reply, as Flower has it."""

    run = None

    def __init__(self, app, nodes, silent=()):
        self.app, self.nodes, self.silent = app, list(nodes), set(silent)
        self.sent = []

    def set_run(self, run):
        pass

    def get_node_ids(self):
        return self.nodes

    def create_message(self, *_, **__):
        raise NotImplementedError

    push_messages = pull_messages = create_message

    def send_and_receive(self, messages, *, timeout=None):
        replies = []
        for message in messages:
            node = message.metadata.dst_node_id
            message.metadata.__dict__["_message_id"] = f"{len(self.sent)}"
            self.sent.append(message)
            if node in self.silent:
                continue
            context = Context(1, node, {"partition-id": self.nodes.index(node)}, RecordDict(), {})
            try:
                reply = self.app(message, context)
            except Exception as error:
                reason = f"{type(error)}:<'{error}'>"
                reply = Message(Error(RAISED, reason), reply_to=message)
            reply.metadata.__dict__["_src_node_id"] = node
            replies.append(reply)
        return replies
