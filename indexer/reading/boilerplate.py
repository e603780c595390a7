"""What of a page is the site around it: menus, banners, footers, cookie notices. It goes."""

import re

from bs4 import BeautifulSoup, Tag

_AROUND = frozenset(("nav", "dialog", "button"))
_ROLES = frozenset(("navigation", "banner", "contentinfo", "search"))
_OUTER = frozenset(("header", "footer", "aside"))  # parts of the site, unless they stand inside an article
_NAMES = re.compile(
    r"(site|page|global|main)?-?_?(nav|navbar|navheader|navfooter|navigation|menu|footer|sidebar|masthead)"
    r"|navbox|breadcrumbs?|skip-?(link|nav|to-content)|cookie-?_?(banner|notice|consent|bar|message)|cookies"
    r"|social(-links|-share)?|share-?(bar|buttons)|adverts?|advertisement|newsletter(-signup)?"
    r"|mw-(editsection|jump-link|indicators)|noprint|headerlink|catlinks",
    re.I,
)
_MAIN_SHARE = 0.5  # of the words that are left: less, and the marked main part is not all of the page
_LEAST_SHARE = 0.1  # of all words: less, and the page is nothing but what was taken away
_LEAST_WORDS = 20


def keep_content(soup: BeautifulSoup) -> None:
    """Take the surroundings away, in place; a page that would lose nearly all its words keeps them."""
    body = soup.body
    if body is None:
        return
    around = [tag for tag in body.find_all(True) if _surrounds(tag)]
    within = _largest_main(body)
    total = _words(body)
    lost = _words_of(_outermost(around))
    if total - lost < max(_LEAST_WORDS, _LEAST_SHARE * total):
        return
    for tag in _outermost(around):
        tag.decompose()
    if within is not None and not within.decomposed and _words(within) >= _MAIN_SHARE * _words(body):
        within.extract()
        body.clear()
        body.append(within)


def _surrounds(tag: Tag) -> bool:
    if tag.name in _AROUND or "hidden" in tag.attrs or tag.attrs.get("role") in _ROLES:
        return True
    return (tag.name in _OUTER and _outer(tag)) or _named(tag)


def _outer(tag: Tag) -> bool:
    return tag.find_parent(["article", "main", "section", "blockquote", "figure"]) is None


def _named(tag: Tag) -> bool:
    if not tag.attrs or tag.name in ("body", "main", "article", "html"):
        return False
    names = [*tag.get_attribute_list("class"), *tag.get_attribute_list("id")]
    named = any(name and _NAMES.fullmatch(str(name)) for name in names)
    return named and tag.find(["main", "article"]) is None


def _largest_main(body: Tag) -> Tag | None:
    """The `main`, or the only article: several articles are all content."""
    mains = [tag for tag in body.find_all(True) if tag.name == "main" or tag.attrs.get("role") == "main"]
    mains = mains or list(body.find_all("article"))
    return mains[0] if len(mains) == 1 else None


def _outermost(tags: list[Tag]) -> list[Tag]:
    chosen = {id(tag) for tag in tags}
    distinct = {id(tag): tag for tag in tags}.values()
    return [tag for tag in distinct if not any(id(parent) in chosen for parent in tag.parents)]


def _words_of(tags: list[Tag]) -> int:
    return sum(map(_words, tags))


def _words(tag: Tag) -> int:
    """Words, with those of scripts and the like not counted; a CJK run counts by its characters."""
    text = " ".join(
        str(piece)
        for piece in tag.find_all(string=True)
        if piece.parent is not None and piece.parent.name not in ("script", "style", "noscript", "template")
    )
    return len(re.findall(r"[\u3040-\u9fff]|[^\W\u3040-\u9fff]+", text))
