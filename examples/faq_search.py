"""Question-answer search in three minutes: README and the guides answer questions about themselves.

Each of its paragraphs becomes a vector, together with the heading above it. The answer to a question is the paragraph
whose vector is nearest; vectors have length 1, so a product of matrices compares every question with every paragraph.

    python -m examples.faq_search    # while `make serve` runs in another terminal
    python -m examples.faq_search "What happens to blank text?"
"""

import re
import sys
from pathlib import Path

import client_sdk

ROOT = Path(__file__).parents[1]
GUIDES = ("export", "client", "protocol", "limits", "how-it-works")
PAGES = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in GUIDES)]
QUESTIONS = [
    "Do users have to log in with a password?",
    "How many requests may wait for their turn?",
    "What becomes of a text that is too long?",
    "How is padding avoided?",
]
BEST = 2


def read_faq() -> list[tuple[str, str]]:
    """Return (heading, text) for each paragraph, list item and table row of the pages, code left out."""
    entries = []
    for page in PAGES:
        prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for section in re.split(r"^#+ ", prose, flags=re.MULTILINE)[1:]:
            heading, _, body = section.partition("\n")
            for text in re.split(r"\n\s*\n|\n(?=\||- )", body):
                if re.search(r"\w", text):
                    entries.append((heading, " ".join(text.strip("|- \n").split())))
    return entries


def main() -> None:
    """Print the best entries for each question."""
    entries = read_faq()
    questions = sys.argv[1:] or QUESTIONS
    with client_sdk.Client() as client:
        answers = client.encode([f"{heading}: {text}" for heading, text in entries])  # [entries, D]
        similarity = client.encode(questions) @ answers.T  # [questions, entries]
    print(f"{len(entries)} entries of {len(PAGES)} pages")
    for question, row in zip(questions, similarity, strict=True):
        print(f"\n{question}")
        for index in row.argsort()[::-1][:BEST]:
            heading, text = entries[index]
            print(f"  {row[index]:.2f}  [{heading}] {text[:90]}")


if __name__ == "__main__":
    main()
