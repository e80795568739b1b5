#pragma once

#include <string>
#include <string_view>

namespace dither {

/// A prompt as WanPipeline (diffusers' prompt_clean) hands it to the tokenizer: html_unescape()
/// twice, nothing that Python calls white space at either end, every run of Unicode's White_Space
/// one space. The reference also runs ftfy.fix_text first where that package is installed, which
/// repairs mojibake and straightens curly quotes; that is not done here.
/// Throws kInvalidArgument for text that is not UTF-8 (with the byte offset).
std::string clean_prompt(std::string_view text);

/// Python's html.unescape, the rules of HTML 5 for character references: named ones, also without
/// semicolon or as the start of a longer word where HTML allows that ("&notit" is "¬it"); numeric
/// ones, of which 0x80..0x9F mean Windows-1252, surrogates and what lies beyond Unicode U+FFFD, and
/// control and non-characters nothing. Anything else stays as it is. `text` is valid UTF-8.
std::string html_unescape(std::string_view text);

}  // namespace dither
