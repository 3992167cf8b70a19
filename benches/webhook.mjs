// The policy of the plugin `seats` as a web server: see webhook.rs. The room whose seat is taken
// is the argument; the first line of output is the port.

import { createServer } from "node:http";

const seats = new Map([[process.argv[2], new Set([7])]]);

const decide = (call) =>
  seats.get(call.room.id)?.has(call.participant.user.id)
    ? { verdict: "allow" }
    : { verdict: "refuse", code: "SEAT_REQUIRED", message: "Take a seat first" };

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const answer = JSON.stringify(decide(JSON.parse(Buffer.concat(chunks).toString())));
    response.writeHead(200, { "content-type": "application/json" });
    response.end(answer);
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
