package account

import "strings"

// agentWords says in words what a browser calls itself: its name and what it runs
// on. What is no known browser keeps its own words, as far as a line goes.
func agentWords(agent string) string {
	name := ""
	// Browsers name those that they want to be taken for too: the rarest first.
	for _, b := range [][2]string{
		{"Edg", "Edge"}, {"OPR/", "Opera"}, {"Vivaldi/", "Vivaldi"}, {"SamsungBrowser/", "Samsung Internet"}, {"FxiOS/", "Firefox"}, {"Firefox/", "Firefox"},
		{"CriOS/", "Chrome"}, {"HeadlessChrome/", "Chrome without a window"}, {"Chromium/", "Chromium"}, {"Chrome/", "Chrome"}, {"Version/", "Safari"}, {"curl/", "curl"},
	} {
		if strings.Contains(agent, b[0]) && (b[1] != "Safari" || strings.Contains(agent, "Safari/")) {
			name = b[1]
			break
		}
	}
	if name == "" {
		const most = 120
		if r := []rune(agent); len(r) > most {
			return string(r[:most]) + "…"
		}
		return agent
	}
	for _, s := range [][2]string{
		{"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"CrOS", "ChromeOS"}, {"Windows", "Windows"}, {"Mac OS X", "macOS"}, {"Macintosh", "macOS"}, {"FreeBSD", "FreeBSD"}, {"OpenBSD", "OpenBSD"}, {"Linux", "Linux"},
	} {
		if strings.Contains(agent, s[0]) {
			return name + " on " + s[1]
		}
	}
	return name
}
