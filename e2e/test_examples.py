"""The five examples of the reference page, with the official Python SDK: the same calls and property values, with the
ids of calls and participants replaced by real ones."""

import asyncio

from server import ADA, APP, BEN, CLEO, DESK, SECRET, TENANT, person, phone, user

CONTEXT = "f2fa86af-3c51-4bc2-8fc0-475452d9764f"


def graph(convoke):
    from azure.identity.aio import ClientSecretCredential
    from kiota_authentication_azure.azure_identity_authentication_provider import AzureIdentityAuthenticationProvider
    from msgraph_beta import GraphServiceClient
    from msgraph_beta.graph_request_adapter import GraphRequestAdapter

    credential = ClientSecretCredential(TENANT, APP, SECRET, authority=convoke.base, disable_instance_discovery=True)
    scopes = ["https://graph.microsoft.com/.default"]
    adapter = GraphRequestAdapter(AzureIdentityAuthenticationProvider(credential, scopes=scopes))
    adapter.base_url = f"{convoke.base}/beta"
    return GraphServiceClient(request_adapter=adapter), credential


def info(identity, kind="user", **properties):
    from msgraph_beta.generated.models.identity import Identity
    from msgraph_beta.generated.models.identity_set import IdentitySet
    from msgraph_beta.generated.models.invitation_participant_info import InvitationParticipantInfo

    if kind == "user":
        who = Identity(odata_type="#microsoft.graph.identity", id=identity, additional_data={"identity_provider": "AAD"})
        identities = IdentitySet(odata_type="#microsoft.graph.identitySet", user=who)
    else:
        additional = {"phone": {"@odata_type": "#microsoft.graph.identity", "id": identity}}
        identities = IdentitySet(odata_type="#microsoft.graph.identitySet", additional_data=additional)
    return InvitationParticipantInfo(
        odata_type="#microsoft.graph.invitationParticipantInfo", identity=identities, **properties
    )


def invite(convoke, call, *participants):
    from msgraph_beta.generated.communications.calls.item.participants.invite.invite_post_request_body import (
        InvitePostRequestBody,
    )

    async def post():
        client, credential = graph(convoke)
        async with credential:
            body = InvitePostRequestBody(participants=list(participants), client_context=CONTEXT)
            return await client.communications.calls.by_call_id(call).participants.invite.post(body)

    return asyncio.run(post())


def completed(convoke, call, operation, who, kind="user"):
    """The terminal notification, as the page shows it."""
    told = convoke.hook.wait_operation(call, operation.id)
    data = told["resourceData"]
    # INV-26
    assert told["changeType"] == "deleted"
    assert told["resource"] == f"/app/calls/{call}/operations/{operation.id}"
    assert data["@odata.type"] == "#microsoft.graph.inviteParticipantsOperation"
    # INV-25
    assert data["status"] == "completed", data
    assert data["clientContext"] == CONTEXT
    assert sorted(p["identity"][kind]["id"] for p in data["participants"]) == sorted(who)
    # INV-27
    assert all("replacesCallId" not in p and "participantId" not in p for p in data["participants"])
    return told


def running(operation):
    from msgraph_beta.generated.models.operation_status import OperationStatus

    # INV-8, INV-25
    assert operation.status == OperationStatus.Running
    assert operation.client_context == CONTEXT
    assert operation.result_info is None


def test_example_1_one_participant_into_an_existing_call(convoke):
    target = convoke.talk(user(DESK), user(BEN))
    replaced = convoke.talk(user(ADA))
    operation = invite(convoke, target, info(ADA, replaces_call_id=replaced))
    running(operation)
    assert operation.participants[0].replaces_call_id == replaced
    completed(convoke, target, operation, [ADA])
    convoke.hook.wait_roster(target, [DESK, BEN, ADA])
    convoke.hook.wait_state(replaced, "terminated")


def test_example_2_several_participants_into_a_group_call(convoke):
    # Verbatim: both name a replaced call that does not exist, which is then dropped (OQ-1).
    target = convoke.talk(user(DESK), user(CLEO))
    unknown = "a7ebfb2d-871e-419c-87af-27290b22e8db"
    operation = invite(
        convoke, target, info(ADA, replaces_call_id=unknown), info(BEN, replaces_call_id=unknown)
    )
    running(operation)
    assert [p.replaces_call_id for p in operation.participants] == [None, None]
    # INV-24
    identity = operation.participants[0].identity.user
    assert identity.display_name == "Participant"
    assert str(identity.additional_data["tenantId"]) == TENANT
    completed(convoke, target, operation, [ADA, BEN])
    convoke.hook.wait_roster(target, [DESK, CLEO, ADA, BEN])


def test_example_3_replaces_a_peer_to_peer_call(convoke):
    target = convoke.talk(user(DESK), user(BEN))
    replaced = convoke.talk(user(ADA))
    # INV-13, INV-14: only the first is read.
    operation = invite(convoke, target, info(ADA, replaces_call_id=replaced), info(CLEO))
    running(operation)
    assert len(operation.participants) == 1
    done = completed(convoke, target, operation, [ADA])
    convoke.hook.wait_roster(target, [DESK, BEN, ADA])
    ended = convoke.hook.wait_state(replaced, "terminated")
    # INV-15, INV-16, CALL-3: the old call ends after the operation has been told.
    assert convoke.hook.told.index(ended) > convoke.hook.told.index(done)
    assert ended["resourceData"]["resultInfo"]["code"] == 200
    assert ended["resourceData"]["resultInfo"]["subcode"] == 7015
    assert ended is convoke.hook.of_call(replaced)[-1]
    assert convoke.ask("DELETE", f"/communications/calls/{replaced}").status_code == 404


def test_example_4_a_phone_number(convoke):
    target = convoke.talk(user(DESK), user(BEN))
    operation = invite(convoke, target, info("+12345678901", kind="phone"))
    running(operation)
    completed(convoke, target, operation, ["+12345678901"], kind="phone")
    convoke.hook.wait_roster(target, [DESK, BEN, "+12345678901"])


def test_example_5_moves_between_two_meetings(convoke):
    source, target = convoke.join(convoke.meeting()), convoke.join(convoke.meeting())
    convoke.invite(source, person(CLEO))
    roster = convoke.hook.wait_roster(source, [CLEO])["resourceData"]
    moved = next(p for p in roster if p["info"]["identity"].get("user"))
    # INV-20
    operation = invite(convoke, target, info(CLEO, replaces_call_id=source, participant_id=moved["id"]))
    running(operation)
    assert operation.participants[0].participant_id == moved["id"]
    completed(convoke, target, operation, [CLEO])
    convoke.hook.wait_roster(target, [CLEO])
    # INV-21: the source stays up, without her.
    since = convoke.hook.told.index(convoke.hook.wait_roster(target, [CLEO]))
    convoke.hook.wait_roster(source, [])
    assert convoke.ask("GET", f"/communications/calls/{source}").json()["state"] == "established"
    assert since > 0


def test_a_peer_to_peer_call_becomes_a_group(convoke):
    # INV-31
    call = convoke.talk(user(DESK))
    operation = convoke.invite(call, person(ADA)).json()
    chat = convoke.hook.wait(
        lambda n: n["resourceUrl"].endswith(f"/calls/{call}") and n["resourceData"].get("chatInfo") is not None
    )
    done = convoke.hook.wait_operation(call, operation["id"])
    roster = convoke.hook.wait_roster(call, [DESK, ADA])
    order = [convoke.hook.told.index(n) for n in (chat, done, roster)]
    assert order == sorted(order)


def test_a_phone_number_can_be_called_peer_to_peer(convoke):
    call = convoke.talk(phone("+12345678902"))
    assert convoke.ask("DELETE", f"/communications/calls/{call}").status_code == 204
    ended = convoke.hook.wait_state(call, "terminated")
    assert ended["resourceData"]["resultInfo"]["subcode"] == 5001
