// A file of OTLP JSON that the reader opens: it stays in the browser, from one page to the next in its own database.
import { documents, tracesOf } from "./otlp.js";

const MAX_BYTES = 64 * 1024 * 1024;
const [DATABASE, STORE, KEY] = ["clearspan", "files", "opened"];

/** Take a file to the page that shows it. */
export async function open(file) {
  if (file.size > MAX_BYTES) throw new Error(`${file.name} has more than ${MAX_BYTES / 1024 / 1024} MiB`);
  await stored("readwrite", (store) => store.put(file, KEY));
  location.assign("/open");
}

/**
 * The file that was opened last; null if there is none.
 * @returns {Promise<?{name: string, traces: object[], leftOut: number}>}
 */
export async function opened() {
  const file = await stored("readonly", (store) => store.get(KEY));
  if (!file) return null;
  const { traces, leftOut } = tracesOf(documents(await file.text()));
  if (!traces.length) throw new Error(`${file.name} has no traces in OTLP JSON`);
  return { name: file.name, traces, leftOut };
}

/** Have a file that is dropped anywhere on the page opened. */
export function acceptDrops(complain) {
  document.addEventListener("dragover", (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    document.body.classList.remove("dropping");
    const [file] = event.dataTransfer.files;
    if (!file) return;
    event.preventDefault();
    open(file).catch(complain);
  });
}

function stored(mode, ask) {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open(DATABASE, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      const database = opening.result;
      const transaction = database.transaction(STORE, mode);
      const request = ask(transaction.objectStore(STORE));
      transaction.oncomplete = () => { database.close(); resolve(request.result); };
      transaction.onabort = () => { database.close(); reject(transaction.error); };
    };
  });
}
