// The invite of the reference page with @microsoft/microsoft-graph-client and @azure/identity. Prints what came back.
import { createRequire } from "node:module";

const require = createRequire(process.env.E2E_NODE_MODULES + "/");
const { Client } = require("@microsoft/microsoft-graph-client");
const { ClientSecretCredential } = require("@azure/identity");

const [base, tenant, client, secret, call, ...people] = process.argv.slice(2);
const credential = new ClientSecretCredential(tenant, client, secret, {
  authorityHost: base,
  disableInstanceDiscovery: true,
});
const { token } = await credential.getToken("https://graph.microsoft.com/.default");
const graph = Client.init({
  baseUrl: base + "/",
  defaultVersion: "beta",
  customHosts: new Set(["localhost"]),
  authProvider: (done) => done(null, token),
});
const operation = await graph.api(`/communications/calls/${call}/participants/invite`).post({
  participants: people.map((text) => {
    const { id, ...more } = JSON.parse(text);
    const kind = id.startsWith("+") ? "phone" : "user";
    return {
      "@odata.type": "#microsoft.graph.invitationParticipantInfo",
      identity: {
        "@odata.type": "#microsoft.graph.identitySet",
        [kind]: { "@odata.type": "#microsoft.graph.identity", id, ...(kind === "user" && { identityProvider: "AAD" }) },
      },
      ...more,
    };
  }),
  clientContext: "f2fa86af-3c51-4bc2-8fc0-475452d9764f",
});
console.log(JSON.stringify(operation));
