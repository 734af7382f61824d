package chart

import (
	"fmt"
	"math"
	"strings"
)

// Point of a line.
type Point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

// Line is one curve.
type Line struct {
	Label  string
	Points []Point
	Ours   bool
}

// Axes says what a chart of lines shows. A logarithmic axis leaves out points
// that are not positive.
type Axes struct {
	Title, X, Y string
	LogX, LogY  bool
}

// Lines draws curves over common axes, with a legend.
func Lines(a Axes, lines []Line) []byte {
	const left, right, top, bottom, height = 72, 170, 48, 52, 360
	c := newCanvas(height, a.Title)
	xs, ys := newScale(a.LogX, left, width-right), newScale(a.LogY, height-bottom, top)
	if !a.LogX {
		xs.see(0)
	}
	if !a.LogY {
		ys.see(0)
	}
	for _, l := range lines {
		for _, p := range l.Points {
			xs.see(p.X)
			ys.see(p.Y)
		}
	}
	for _, v := range ys.ticks() {
		y := ys.at(v)
		c.line(left, y, width-right, y, faint, 1)
		c.text(left-8, y+4, "end", tick(v))
	}
	for _, v := range xs.ticks() {
		x := xs.at(v)
		c.line(x, height-bottom, x, height-bottom+5, ink, 1)
		c.text(x, height-bottom+20, "middle", tick(v))
	}
	c.line(left, height-bottom, width-right, height-bottom, ink, 1)
	c.text((left+width-right)/2, height-12, "middle", a.X)
	c.text(left, top-8, "start", a.Y)
	other, own := 0, 0
	for i, l := range lines {
		stroke, weight := "", 3.0
		if !l.Ours {
			stroke, weight = palette[other%len(palette)], 1.8
			other++
		} else {
			stroke = shades[own%len(shades)]
			own++
		}
		var path strings.Builder
		for _, p := range l.Points {
			if (a.LogX && p.X <= 0) || (a.LogY && p.Y <= 0) {
				continue
			}
			fmt.Fprintf(&path, "%s,%s ", coordinate(xs.at(p.X)), coordinate(ys.at(p.Y)))
		}
		fmt.Fprintf(c, `<polyline points="%s" fill="none" stroke="%s" stroke-width="%g" stroke-linejoin="round"/>`+"\n",
			strings.TrimSpace(path.String()), stroke, weight)
		y := float64(top + 8 + i*22)
		c.line(width-right+14, y, width-right+36, y, stroke, weight)
		c.text(width-right+42, y+4, "start", l.Label)
	}
	return c.bytes()
}

// scale maps values to coordinates.
type scale struct {
	log         bool
	from, to    float64 // coordinates
	least, most float64 // values seen
}

func newScale(log bool, from, to float64) *scale {
	return &scale{log: log, from: from, to: to, least: math.Inf(1), most: math.Inf(-1)}
}

func (s *scale) see(v float64) {
	if s.log && v <= 0 {
		return
	}
	s.least, s.most = min(s.least, v), max(s.most, v)
}

// bounds are the values at both ends: whole decades, or a round number.
func (s *scale) bounds() (least, most float64) {
	switch {
	case s.least > s.most: // nothing seen
		return 1, 10
	case s.log:
		least, most = math.Pow(10, math.Floor(math.Log10(s.least))), math.Pow(10, math.Ceil(math.Log10(s.most)))
		if least == most {
			most *= 10
		}
		return least, most
	default:
		step := s.step()
		most = math.Ceil(s.most/step) * step
		return math.Floor(s.least/step) * step, max(most, s.least+step)
	}
}

// step is 1, 2 or 5 times a power of ten, such that about five fit.
func (s *scale) step() float64 {
	span := s.most - s.least
	if span <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(span/5)))
	for _, m := range []float64{1, 2, 5} {
		if span/(m*power) <= 6 {
			return m * power
		}
	}
	return 10 * power
}

func (s *scale) at(v float64) float64 {
	least, most := s.bounds()
	part := (v - least) / (most - least)
	if s.log {
		part = (math.Log10(v) - math.Log10(least)) / (math.Log10(most) - math.Log10(least))
	}
	return s.from + part*(s.to-s.from)
}

func (s *scale) ticks() []float64 {
	least, most := s.bounds()
	var all []float64
	if s.log {
		for v := least; v <= most*1.001; v *= 10 {
			all = append(all, v)
		}
		return all
	}
	step := s.step()
	for i := 0; least+float64(i)*step <= most+step/1000; i++ {
		all = append(all, least+float64(i)*step)
	}
	return all
}

// tick writes a value at an axis, briefly.
func tick(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%gM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%gk", v/1e3)
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	default:
		return fmt.Sprintf("%.3g", v)
	}
}
