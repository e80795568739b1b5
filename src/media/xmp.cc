#include "media/xmp.h"

#include <array>
#include <utility>

namespace dither {
namespace {

constexpr std::string_view kHead =
    "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">"
    "<rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">"
    "<rdf:Description rdf:about=\"\" xmlns:dither=\"urn:dither:text\"";
constexpr std::string_view kTail = "/></rdf:RDF></x:xmpmeta>";
constexpr std::string_view kPrefix = " dither:";

// Tab, line feed and carriage return too: a reader of XML makes spaces of them in attributes.
constexpr std::array<std::pair<char, std::string_view>, 7> kReferences = {{{'&', "&amp;"},
                                                                           {'<', "&lt;"},
                                                                           {'>', "&gt;"},
                                                                           {'"', "&quot;"},
                                                                           {'\t', "&#9;"},
                                                                           {'\n', "&#10;"},
                                                                           {'\r', "&#13;"}}};

void append_escaped(char c, std::string& out) {
  for (const auto& [character, reference] : kReferences) {
    if (c == character) {
      out += reference;
      return;
    }
  }
  if (static_cast<unsigned char>(c) < ' ') {
    out += "\xEF\xBF\xBD";
  } else {
    out += c;
  }
}

std::string unescaped(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    std::string_view taken = text.substr(0, 1);
    char meant = taken.front();
    for (const auto& [character, reference] : kReferences) {
      if (!text.starts_with(reference)) continue;
      taken = reference;
      meant = character;
    }
    out += meant;
    text.remove_prefix(taken.size());
  }
  return out;
}

}  // namespace

std::string to_xmp(const PngText& text) {
  std::string packet(kHead);
  for (const auto& [keyword, value] : text) {
    packet += kPrefix;
    packet += keyword;
    packet += "=\"";
    for (const char c : value) append_escaped(c, packet);
    packet += '"';
  }
  packet += kTail;
  return packet;
}

PngText parse_xmp(std::string_view packet) {
  if (!packet.starts_with(kHead) || !packet.ends_with(kTail)) return {};
  packet.remove_prefix(kHead.size());
  PngText text;
  while (packet.starts_with(kPrefix)) {
    packet.remove_prefix(kPrefix.size());
    const std::size_t name = packet.find("=\"");
    if (name == std::string_view::npos) break;
    const std::size_t end = packet.find('"', name + 2);
    if (end == std::string_view::npos) break;
    text.emplace_back(packet.substr(0, name), unescaped(packet.substr(name + 2, end - name - 2)));
    packet.remove_prefix(end + 1);
  }
  return text;
}

}  // namespace dither
