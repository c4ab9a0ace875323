import pytest

from flows.deployment.artifacts import _plain, page_url


@pytest.mark.parametrize(
    ("report", "pages", "url"),
    [
        ("/srv/out/reports/20250121/index.html", None, "file:///srv/out/reports/20250121/index.html"),
        ("/srv/o ut/reports/20250121/index.html", None, "file:///srv/o%20ut/reports/20250121/index.html"),
        ("/srv/out/reports/20250121/index.html", "https://host/nights/", "https://host/nights/20250121/index.html"),
        ("s3://bucket/out/reports/20250121/index.html", None, "s3://bucket/out/reports/20250121/index.html"),
        ("s3://bucket/out/reports/20250121/index.html", "https://host", "https://host/20250121/index.html"),
    ],
)
def test_the_link_leads_to_the_page(report, pages, url):
    assert page_url(report, pages) == url


def test_names_of_files_are_neither_markdown_nor_html():
    assert _plain("a_b*c\n <img src=x> [x](y)") == r"a\_b\*c \<img src=x\> \[x\](y)"
