"""The pages in a real Chromium; a package, since one browser is for all of its tests, and ends after the last one."""
