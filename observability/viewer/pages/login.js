// Exchanges the token, typed or in the address's fragment, for a cookie that scripts cannot read.
const failure = document.querySelector("[role=alert]");
const input = document.querySelector("input");

async function login(token) {
  const answer = await fetch("/login", { method: "POST", headers: { authorization: `Bearer ${token}` } });
  if (answer.ok) location.reload();
  else throw new Error("This is not its token.");
}

const tell = (error) => {
  failure.textContent = error.message;
  failure.hidden = false;
};

document.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  login(input.value.trim()).catch(tell);
});

const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  history.replaceState(null, "", location.pathname + location.search);
  login(given).catch(tell);
}
