addEventListener("DOMContentLoaded", () => document.querySelectorAll("form.tools").forEach(form => {
  const grid = form.nextElementSibling.querySelector(".cards"), cards = [...grid.children];
  const facts = new Map(cards.map(card => [card, JSON.parse(card.dataset.facts)]));
  const value = name => form.querySelector("." + name).value;
  const orders = {doubt: (a, b) => a.certainty - b.certainty, sure: (a, b) => b.certainty - a.certainty,
    lineage: (a, b) => a.lineage.join().localeCompare(b.lineage.join()), name: (a, b) => a.name.localeCompare(b.name)};
  const show = () => {
    const text = value("text").trim().toLowerCase();
    let n = 0;
    for (const card of cards) {
      const one = facts.get(card), words = (card.innerText || card.textContent).toLowerCase() + " "
        + [...one.lineage, one.name].join(" ").toLowerCase();
      card.hidden = !(words.includes(text) && (!value("rank") || one.rank === value("rank"))
        && (!value("status") || one.status === value("status")) && one.certainty >= +value("least"));
      n += !card.hidden;
    }
    const by = orders[value("order")];
    grid.append(...(by ? [...cards].sort((a, b) => by(facts.get(a), facts.get(b))) : cards));
    form.querySelector("output").textContent = `${n} of ${cards.length} shown`;
  };
  form.oninput = show;
  form.onsubmit = event => event.preventDefault();
  show();
}));