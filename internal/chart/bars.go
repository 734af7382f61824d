package chart

import "fmt"

// Bar is one figure: its median and its extremes.
type Bar struct {
	Label            string
	Median, Min, Max float64
	Ours             bool
}

// Bars draws figures of one unit below each other, in the order given; a thin
// line goes from the least to the greatest of the samples.
func Bars(title, unit string, bars []Bar) []byte {
	const left, right, top, step = 190, 130, 44, 30
	c := newCanvas(top+step*len(bars)+12, title)
	most := 0.0
	for _, b := range bars {
		most = max(most, b.Max, b.Median)
	}
	if most == 0 {
		most = 1
	}
	scale := (width - left - right) / most
	for i, b := range bars {
		y := float64(top + i*step)
		fill := others
		if b.Ours {
			fill = ours
		}
		c.text(left-10, y+16, "end", b.Label)
		fmt.Fprintf(c, `<rect x="%d" y="%s" width="%s" height="20" rx="2" fill="%s"/>`+"\n",
			left, coordinate(y+2), coordinate(b.Median*scale), fill)
		if b.Max > b.Min {
			c.line(left+b.Min*scale, y+12, left+b.Max*scale, y+12, ink, 1.5)
		}
		c.text(left+max(b.Max, b.Median)*scale+8, y+16, "start", Number(b.Median)+" "+unit)
	}
	return c.bytes()
}
