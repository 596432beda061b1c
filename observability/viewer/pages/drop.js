// A file of OTLP JSON that is dropped on any page is opened.
import { element } from "./common.js";
import { acceptDrops } from "./trace/file.js";

acceptDrops((error) => document.querySelector("main").prepend(element("p", "error", error.message)));
