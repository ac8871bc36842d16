//! Pages that text and shapes are put on, from the top down.

use pdf_writer::{Content, Finish as _, Name, Pdf, Rect, Ref, Str, TextStr};

use super::font::{Font, shown};

pub(crate) const WIDTH: f32 = 595.0;
const HEIGHT: f32 = 842.0;
pub(crate) const MARGIN: f32 = 48.0;
/// Where the foot begins.
const BOTTOM: f32 = 64.0;

pub(crate) type Colour = (f32, f32, f32);

/// How a text looks.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    pub face: Face,
    pub size: f32,
    pub colour: Colour,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Face {
    Plain,
    Bold,
    /// All characters of one width.
    Mono,
}

impl Face {
    fn name(self) -> Name<'static> {
        match self {
            Self::Plain => Name(b"P"),
            Self::Bold => Name(b"B"),
            Self::Mono => Name(b"M"),
        }
    }

    fn base(self) -> Name<'static> {
        match self {
            Self::Plain => Name(b"Helvetica"),
            Self::Bold => Name(b"Helvetica-Bold"),
            Self::Mono => Name(b"Courier"),
        }
    }
}

impl Style {
    /// Black, in no particular weight.
    pub fn plain(size: f32) -> Self {
        Self { face: Face::Plain, size, colour: (0.0, 0.0, 0.0) }
    }

    pub fn width(self, text: &str) -> f32 {
        match self.face {
            Face::Plain => Font::Plain.width(text, self.size),
            Face::Bold => Font::Bold.width(text, self.size),
            Face::Mono => shown(text).len() as f32 * 0.6 * self.size, // texts are short
        }
    }

    /// Lines no wider than that; a word that is wider is cut.
    pub fn wrap(self, text: &str, width: f32) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for word in text.split_ascii_whitespace() {
            let mut word = word;
            while self.width(word) > width {
                let most = word.char_indices().map(|(at, _)| at).skip(1);
                let cut =
                    most.take_while(|at| self.width(word.get(..*at).unwrap_or_default()) <= width).last();
                let (head, rest) = word.split_at_checked(cut.unwrap_or(1)).unwrap_or((word, ""));
                lines.push(head.to_owned());
                word = rest;
            }
            match lines.last_mut() {
                Some(line) if self.width(&format!("{line} {word}")) <= width => {
                    line.push(' ');
                    line.push_str(word);
                }
                _ => lines.push(word.to_owned()),
            }
        }
        lines
    }
}

/// Pages, the last of which is written on.
pub(crate) struct Sheet {
    pages: Vec<Content>,
    /// How far down, from the top.
    pub y: f32,
}

impl Sheet {
    pub fn new() -> Self {
        Self { pages: vec![Content::new()], y: MARGIN }
    }

    pub fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// Whether something of that height fits on this page.
    pub fn has_room(&self, height: f32) -> bool {
        self.y + height <= HEIGHT - BOTTOM
    }

    pub fn next_page(&mut self) {
        self.pages.push(Content::new());
        self.y = MARGIN;
    }

    fn page(&mut self, index: Option<usize>) -> Option<&mut Content> {
        let last = self.pages.len().checked_sub(1)?;
        self.pages.get_mut(index.unwrap_or(last))
    }

    /// Text whose baseline is `y` below the top.
    pub fn text(&mut self, x: f32, y: f32, style: Style, text: &str) {
        self.text_on(None, x, y, style, text);
    }

    fn text_on(&mut self, index: Option<usize>, x: f32, y: f32, style: Style, text: &str) {
        let Some(page) = self.page(index) else { return };
        let (r, g, b) = style.colour;
        page.set_fill_rgb(r, g, b);
        page.begin_text().set_font(style.face.name(), style.size).next_line(x, HEIGHT - y);
        page.show(Str(&shown(text)));
        page.end_text();
    }

    pub fn fill(&mut self, x: f32, y: f32, width: f32, height: f32, colour: Colour) {
        let Some(page) = self.page(None) else { return };
        page.set_fill_rgb(colour.0, colour.1, colour.2);
        page.rect(x, HEIGHT - y - height, width, height).fill_nonzero();
    }

    /// A line of the width of the text.
    pub fn rule(&mut self, colour: Colour) {
        let y = self.y;
        self.fill(MARGIN, y, WIDTH - 2.0 * MARGIN, 0.5, colour);
    }

    /// Puts `left` and the number of the page at the foot of each, and gives the file.
    pub fn finish(mut self, title: &str, left: &[(Style, String)], number: Style) -> Vec<u8> {
        let count = self.pages.len();
        for index in 0..count {
            let mut y = HEIGHT - BOTTOM + 28.0;
            for (style, text) in left {
                self.text_on(Some(index), MARGIN, y, *style, text);
                y += style.size + 3.0;
            }
            let text = format!("{} / {count}", index + 1);
            let x = WIDTH - MARGIN - number.width(&text);
            self.text_on(Some(index), x, HEIGHT - BOTTOM + 28.0, number, &text);
        }
        self.write(title)
    }

    fn write(self, title: &str) -> Vec<u8> {
        const FACES: [Face; 3] = [Face::Plain, Face::Bold, Face::Mono];
        let mut next = 1..;
        let mut id = || Ref::new(next.next().unwrap_or(i32::MAX));
        let (catalog, tree, info) = (id(), id(), id());
        let fonts = FACES.map(|face| (face, id()));
        let pages: Vec<(Ref, Ref, Content)> =
            self.pages.into_iter().map(|content| (id(), id(), content)).collect();
        let mut pdf = Pdf::new();
        pdf.catalog(catalog).pages(tree).lang(TextStr("en")).viewer_preferences().display_doc_title(true);
        pdf.document_info(info).title(TextStr(title)).producer(TextStr("estoppel"));
        let count = i32::try_from(pages.len()).unwrap_or(i32::MAX);
        pdf.pages(tree).kids(pages.iter().map(|(page, _, _)| *page)).count(count);
        for (face, font) in fonts {
            pdf.type1_font(font).base_font(face.base()).encoding_predefined(Name(b"WinAnsiEncoding"));
        }
        for (page, stream, content) in pages {
            let mut written = pdf.page(page);
            written.parent(tree).media_box(Rect::new(0.0, 0.0, WIDTH, HEIGHT)).contents(stream);
            let mut resources = written.resources();
            let mut listed = resources.fonts();
            for (face, font) in fonts {
                listed.pair(face.name(), font);
            }
            listed.finish();
            resources.finish();
            written.finish();
            pdf.stream(stream, &content.finish());
        }
        pdf.finish()
    }
}
