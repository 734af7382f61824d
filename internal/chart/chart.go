// Package chart draws the two kinds of chart that the benchmarks need, as SVG
// that reads on a light and on a dark page alike.
package chart

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

const (
	width    = 720
	ours     = "#2563eb" // what the chart is about
	others   = "#94a3b8"
	ink      = "#1e293b"
	faint    = "#cbd5e1"
	fontSize = 13
)

// palette of the lines that are not ours.
var palette = []string{"#ea580c", "#16a34a", "#9333ea", "#64748b", "#be123c", "#0d9488"}

// shades of the lines that are ours.
var shades = []string{ours, "#60a5fa"}

// canvas collects the elements of one picture.
type canvas struct {
	strings.Builder
	height int
}

func newCanvas(height int, title string) *canvas {
	c := &canvas{height: height}
	fmt.Fprintf(c, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="%d" role="img">`+"\n",
		width, height, fontSize)
	fmt.Fprintf(c, "<title>%s</title>\n", escape(title))
	fmt.Fprintf(c, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	c.text(16, 26, "start", title, `font-weight="600" font-size="15"`)
	return c
}

func (c *canvas) text(x, y float64, anchor, s string, attributes ...string) {
	fmt.Fprintf(c, `<text x="%s" y="%s" text-anchor="%s" fill="%s" %s>%s</text>`+"\n",
		coordinate(x), coordinate(y), anchor, ink, strings.Join(attributes, " "), escape(s))
}

func (c *canvas) line(x1, y1, x2, y2 float64, stroke string, width float64) {
	fmt.Fprintf(c, `<line x1="%s" y1="%s" x2="%s" y2="%s" stroke="%s" stroke-width="%g"/>`+"\n",
		coordinate(x1), coordinate(y1), coordinate(x2), coordinate(y2), stroke, width)
}

func (c *canvas) bytes() []byte { return []byte(c.String() + "</svg>\n") }

// coordinate rounds to a tenth: more is noise in a diff.
func coordinate(v float64) string {
	return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64)
}

var escapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")

func escape(s string) string { return escapes.Replace(s) }

// Number writes a figure with three digits that count, and thousands separated.
func Number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1000:
		digits := strconv.FormatFloat(v, 'f', 0, 64)
		for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
			digits = digits[:i] + "," + digits[i:]
		}
		return digits
	case a >= 100 || v == math.Trunc(v):
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}
