// @ts-check
/** What stands in the way of a live picture, said where the picture would be. */

import { byId, setText } from "./dom.js";
import { fixed, integer } from "./format.js";

/**
 * @typedef {import("./live-message.js").Status} Status
 * @typedef {{connection: import("./socket.js").Connection, status: Status | null, age: number | null,
 *   drawn: number | null}} Situation ``drawn`` is the number of the frame on the screen
 */

/** @param {Situation} situation */
export function showNotices({ connection, status, age, drawn }) {
  showBanner({ connection, status, age, drawn });
  showEmptyState(connection, status, drawn);
  byId("stage").classList.toggle("stale", connection.state === "lost" || status?.phase === "stalled");

  const learning = status?.phase === "learning" && drawn !== null;
  byId("learning").hidden = !learning;
  if (learning) {
    const [gathered, needed] = status.learning;
    setText(byId("learning-text"), `Learning classes: ${gathered} of ${needed} frames gathered`);
    byId("learning-bar").max = Math.max(1, needed);
    byId("learning-bar").value = gathered;
  }
  byId("no-lattice").hidden = !(drawn !== null && status?.lattice_found === false);
}

/** @param {Situation} situation */
function showBanner({ connection, status, age, drawn }) {
  const banner = byId("banner");
  const retry = byId("retry");
  const picture = drawn === null ? "" : ` The picture is frame ${drawn}.`;
  if (connection.state === "lost") {
    const wait = connection.retryAt === undefined ? null : Math.max(0, (connection.retryAt - Date.now()) / 1000);
    banner.dataset.kind = "lost";
    const next = wait === null ? "A key is needed." : wait < 0.5 ? "Trying again now." : `Trying again in ${fixed(wait, 0)} s.`;
    setText(byId("banner-text"), `Connection to the service lost. ${next}${picture}`);
    retry.hidden = false;
    banner.hidden = false;
  } else if (status?.phase === "stalled") {
    banner.dataset.kind = "stalled";
    const since = age === null ? "Frames have stopped." : `No new frame for ${integer(age)} s.`;
    setText(byId("banner-text"), `${since}${picture} The service is listening and goes on by itself.`);
    retry.hidden = true;
    banner.hidden = false;
  } else if (status?.phase === "waiting" && drawn !== null) {
    banner.dataset.kind = "ended";
    setText(byId("banner-text"), `The series has ended.${picture} Waiting for the next one.`);
    retry.hidden = true;
    banner.hidden = false;
  } else {
    banner.hidden = true;
  }
}

/** @param {import("./socket.js").Connection} connection @param {Status | null} status @param {number | null} drawn */
function showEmptyState(connection, status, drawn) {
  const empty = byId("empty");
  empty.hidden = drawn !== null;
  if (drawn !== null) return;
  const connected = connection.state === "open" && status !== null;
  setText(byId("empty-title"), connected ? "Waiting for frames" : "Connecting to the service");
  byId("empty-help").hidden = !connected;
  const sources = status?.sources ?? [];
  setText(byId("empty-source"), sources.length ? `Listening to ${sources.join(", ")}.` : "The service is listening.");
}
