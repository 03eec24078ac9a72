/** Requests to the service, and the key for them where it asks for one. The key lives as long as the tab. */

import { byId, on, say } from "./dom.js";
import { access as words } from "./words.js";

const STORED = "latticewatch-key";

/** What the service answered when it refused. */
export class ApiError extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** @returns {string | null} */
export const currentKey = () => sessionStorage.getItem(STORED);

/** Address of a path of the API, beside the page. @param {string} path */
export const apiUrl = (path) => new URL(path, document.baseURI);

/** @type {Promise<boolean> | null} */
let asking = null;

/**
 * Ask the person for a key; everybody who needs one waits for the same answer.
 * @param {string} reason
 * @returns {Promise<boolean>} whether a key was given
 */
export function askForKey(reason = words.reading) {
  asking ??= new Promise((resolve) => {
    const dialog = byId("key-dialog");
    const field = byId("key-field");
    const once = new AbortController();
    const answer = (given) => {
      once.abort();
      if (given) sessionStorage.setItem(STORED, field.value.trim());
      field.value = "";
      dialog.close();
      asking = null;
      resolve(given);
    };
    say("key-reason", reason);
    on("key-form", "submit", (event) => {
      event.preventDefault();
      if (field.value.trim()) answer(true);
    }, { signal: once.signal });
    dialog.addEventListener("cancel", () => answer(false), { signal: once.signal });
    on("key-cancel", "click", () => answer(false), { signal: once.signal });
    dialog.showModal();
  });
  return asking;
}

/**
 * One request with the key, a time limit, and a question for the key where it is refused for want of one.
 * @param {string} path
 * @param {{method?: string, body?: unknown}} [options]
 * @returns {Promise<Response>} an answer that is ok
 */
async function request(path, { method = "GET", body } = {}) {
  for (;;) {
    const key = currentKey();
    /** @type {Record<string, string>} */
    const headers = {};
    if (key) headers["authorization"] = `Bearer ${key}`;
    if (body !== undefined) headers["content-type"] = "application/json";
    const response = await fetch(apiUrl(path), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(10_000),
    });
    if (response.ok) return response;
    if (response.status === 401 || (response.status === 403 && method !== "GET")) {
      const reason = method === "GET" ? words.reading : words.changing;
      if (await askForKey(reason)) continue;
    }
    throw new ApiError(response.status, await explanation(response));
  }
}

/** The service's own words for what was wrong. @param {Response} response */
async function explanation(response) {
  try {
    const { detail } = await response.json();
    if (typeof detail === "string") return detail;
    if (Array.isArray(detail) && detail.length) return String(detail[0].msg);
  } catch {
    // not JSON: the status line has to do
  }
  return words.refused(response.status, response.statusText);
}

/** @param {string} path @returns {Promise<any>} */
export const getJson = async (path) => (await request(path)).json();

/** @param {string} path */
export const getBlob = async (path) => (await request(path)).blob();

/** @param {string} path @param {unknown} body @returns {Promise<any>} */
export const patchJson = async (path, body) => (await request(path, { method: "PATCH", body })).json();

/** @param {string} path @param {unknown} [body] @returns {Promise<any>} */
export const postJson = async (path, body) => (await request(path, { method: "POST", body })).json();
