"""Births and deaths on retained topics, and who is alive by them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from broker.bus import Bus, Message
from schemas.errors import WireError
from schemas.messages import Presence, PresenceState, Served
from schemas.topics import Kind, Topics
from schemas.wire import decode_map, encode_map

_ENDED = frozenset({PresenceState.STOPPED, PresenceState.OFFLINE})


@dataclass(slots=True)
class Announcer:
    """Says of one process that it lives, what it serves and, through the broker, that it died."""

    kind: Kind
    id: str
    serves: tuple[Served, ...]
    topics: Topics
    state: PresenceState = PresenceState.ONLINE
    ephemeral: bool = False
    """Whether the id is of this process alone: then its retained presence is cleared after a clean end.

    Otherwise every restart would leave one, and rumqttd gives a subscription 100 retained messages at most.
    """

    def birth(self, session: str) -> Message:
        """What is published after each connection: the state of this moment."""
        return self._message(session, self.state)

    def will(self, session: str) -> Message:
        """What the broker publishes when the connection of that session breaks."""
        return self._message(session, PresenceState.OFFLINE)

    async def announce(self, bus: Bus, state: PresenceState) -> None:
        """Publish a new state. When the link is down it is the next birth that says so."""
        self.state = state
        if bus.connected:
            birth = self.birth(bus.session)
            await bus.publish(birth)
            if self.ephemeral and state is PresenceState.STOPPED:
                await bus.publish(replace(birth, payload=b""))

    def _message(self, session: str, state: PresenceState) -> Message:
        presence = Presence(kind=self.kind, id=self.id, session=session, state=state, serves=self.serves)
        return Message(self.topics.presence(self.kind, self.id), encode_map(presence), qos=1, retain=True)


@dataclass(slots=True)
class Roster:
    """Who is alive, from presence messages in the order of their arrival.

    A death counts only for the birth of the same session: the broker may publish the will of an old
    connection after the birth of the new one.
    """

    topics: Topics
    _present: dict[tuple[str, str], Presence] = field(default_factory=dict)

    def update(self, message: Message) -> Presence | None:
        """Take one presence message; None when it is not one, or speaks of a session that is over."""
        try:
            address = self.topics.parse(message.topic)
            if address.what != "presence":
                return None
            if not message.payload:
                self._present.pop((address.levels["kind"], address.levels["id"]), None)
                return None
            presence = decode_map(Presence, message.payload)
            key = (address.levels["kind"], address.levels["id"])
        except WireError:
            return None
        if key != (presence.kind, presence.id):
            return None
        known = self._present.get(key)
        if presence.state is PresenceState.OFFLINE and known is not None and known.session != presence.session:
            return None
        if presence.state in _ENDED:
            self._present.pop(key, None)
        else:
            self._present[key] = presence
        return presence

    def serving(self, model: str, line: str) -> list[Presence]:
        """The workers online that serve a line of a model, whatever their interface."""
        return [
            presence
            for presence in self._present.values()
            if presence.kind == "worker"
            and presence.state is PresenceState.ONLINE
            and any(served.model == model and served.line == line for served in presence.serves)
        ]

    def known(self) -> list[Presence]:
        """Everyone who has announced and not ended, in whatever state."""
        return list(self._present.values())
